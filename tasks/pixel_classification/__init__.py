"""ilastik pixel classification without ilastik: project file, features, forest."""
