"""The volume service of a cell: keeps volumes as files, and exports them to the hosts that use them."""
