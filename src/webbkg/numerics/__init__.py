"""Numbers alone: order statistics, row bands over threads, compilation. No mode, no file."""
