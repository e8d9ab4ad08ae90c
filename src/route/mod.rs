//! Route APIs: from weights to the objects of a mesh or gateway.
