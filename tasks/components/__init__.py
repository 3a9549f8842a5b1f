"""Connected components: labelling, faces, merge, measures, tables, cores."""
