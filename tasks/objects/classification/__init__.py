"""Classes of objects, as a project of ilastik's object classification has learnt them."""
