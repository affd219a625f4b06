"""What any run needs: its files, its workdir, its screen, its processes."""
