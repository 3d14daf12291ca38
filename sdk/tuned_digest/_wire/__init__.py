"""The bytes of the scheme, defined once for both ends."""
