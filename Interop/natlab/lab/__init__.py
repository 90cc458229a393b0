"""Networks with NATs of every kind, made of network namespaces on one machine (see ../README.md)."""
