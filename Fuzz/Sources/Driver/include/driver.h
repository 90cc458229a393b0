// Nothing is called from Swift: the linker takes the mains.
