"""What programs ask a server for: boxes of voxels, how far a run is, and a description of it all."""
