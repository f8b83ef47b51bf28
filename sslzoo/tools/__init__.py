"""What any program needs: errors, files, bounds of numbers; nothing of ours."""
