"""Who hears of a run: the screen, and a person's own callbacks."""
