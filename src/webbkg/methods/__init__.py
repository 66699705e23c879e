"""The science: arrays and options in, frozen results out. No files, no models, no logging."""
