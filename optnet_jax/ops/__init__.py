"""Operations of convolutional networks: reference forms, and those for a CPU."""
