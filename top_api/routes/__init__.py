"""The Compute API's resources. One file per resource, with the same name in routes, schemas and views."""

from top_api.routes.operator import operator
from top_api.routes.server_actions import server_actions
from top_api.routes.servers import servers
from top_api.routing import Resource

RESOURCES: tuple[Resource, ...] = (servers, server_actions, operator)
