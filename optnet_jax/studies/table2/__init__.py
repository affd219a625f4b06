"""Table 2 of §5.3: what the simulation nets reach, and what that measures."""
