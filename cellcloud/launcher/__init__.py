"""The launcher: brings a whole cloud up on one machine, in one process or in many.

``layout`` turns choices into directories, ports and option files, ``process_graph`` into units with their order;
``supervisor`` (services profile) and ``one_process`` (embedded profile) run them; ``rabbitmq_servers``,
``database_servers`` and ``libvirt_nodes`` say how to run what is not ours. Services are found by their entry points
in the group ``cellcloud.services``.
"""
