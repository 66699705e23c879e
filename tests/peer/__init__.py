"""Agreement with the jwst package, run as a black box."""
