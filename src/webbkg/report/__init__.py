"""What was done, made visible: metrics and a verdict of each subtraction."""
