"""N5, Zarr and precomputed scales: what describes an array, where its chunks lie, what reads and writes them."""
