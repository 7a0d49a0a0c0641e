"""How the OpenAPI document tells what jobs are asked to do: one schema for each kind that there is."""

from __future__ import annotations

from litestar._openapi.schema_generation import SchemaCreator
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from hub.jobs.kinds import job_kinds
from hub.schemas.jobs import JobSpec


class JobSpecSchema(OpenAPISchemaPlugin):
    """`JobSpec` is any of the kinds' structs, told apart by `kind`."""

    @staticmethod
    def is_plugin_supported_type(value: object) -> bool:
        """Whether it is the specs' common class."""
        return value is JobSpec

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:  # noqa: ARG002
        """One of the kinds, or an object of a kind that this document does not know."""
        known = [
            schema_creator.for_field_definition(FieldDefinition.from_annotation(kind.spec))
            for _, kind in sorted(job_kinds().items())
        ]
        return Schema(any_of=[*known, Schema(type=OpenAPIType.OBJECT, description="Of a kind that is not loaded.")])
