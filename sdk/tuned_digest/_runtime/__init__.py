"""How work is done: steps, the two drivers that perform them, the limiter, and what the machine has."""
