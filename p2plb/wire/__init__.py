"""All I/O of the data plane: lanes, the network backend, waiting; sync and async, for any httpcore."""
