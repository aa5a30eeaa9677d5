"""What a logging node keeps on its disk."""
