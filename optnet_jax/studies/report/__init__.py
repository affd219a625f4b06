"""A page about runs of training, from their workdirs."""
