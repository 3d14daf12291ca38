"""The self-signed token, made and read (tokens.md)."""
