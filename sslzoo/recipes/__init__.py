"""What a method is: ten switches and the knobs that they read, without torch."""
