//! Where a VirtualService sends a request, as the proxy would decide: the simulator's traffic
//! goes by it, and the tests of this module prove their properties with it.
