"""What every client leaf shares: the flow of one call, its exchanges, and what an auth object remembers."""
