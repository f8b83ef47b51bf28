"""What pictures are decoded to: which values are black and white, channels beside colours, photos of telephones."""
