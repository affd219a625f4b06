"""What a network is: parameters, multiply-adds, memory, and its structure drawn."""
