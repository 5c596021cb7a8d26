"""What a scheduler believes of its cell: the hosts in columns, what is pending on them, and how both change."""
