"""What the client libraries of one family share: httpx and its kin, requests and its kin.

A family is given the library and makes what its leaf needs of it; a leaf adds its library's own types.
"""
