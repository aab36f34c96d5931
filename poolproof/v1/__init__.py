"""Generated from proto/poolproof/v1 by `make gen`; imported only by `poolproof.wire` and the gRPC edges."""
