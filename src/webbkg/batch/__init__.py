"""Many exposures: what is subtracted from what, on all cores or a cluster, and taken up again."""
