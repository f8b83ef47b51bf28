"""How many epochs, at which view size, there is time for: what is timed, what is kept of it, and what follows."""
