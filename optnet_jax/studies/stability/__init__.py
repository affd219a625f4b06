"""What a structure does to signals and gradients: roots, norms, training at depth."""
