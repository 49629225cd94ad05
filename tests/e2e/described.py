# SPDX-License-Identifier: PostgreSQL
"""The gateway's own description of its API, against which the tests hold each
JSON answer that they get: a member that the description lacks is a fault, and
so is one that the answer lacks."""

import functools
import json
import os
import re
import subprocess

import fastjsonschema

from cluster import need

PROBLEM = {"$ref": "#/components/schemas/Problem"}


@functools.cache
def description():
    return json.loads(subprocess.run(
        [os.path.join(os.path.dirname(need("PGSTOCK_RELAY")),
                      "pgstock-gateway"), "openapi"],
        stdout=subprocess.PIPE, check=True).stdout)


def exact(schema):
    """The same, without members that are not named."""
    if isinstance(schema, list):
        return [exact(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return {**more, **{name: exact(one) for name, one in schema.items()}}


@functools.cache
def operations():
    """(method, pattern of the path, name, responses) of each."""
    return [(method.upper(),
             re.compile(re.sub(r"{\w+}", "[^/]+", path) + r"(\?.*)?"),
             operation["operationId"], operation["responses"])
            for path, methods in description()["paths"].items()
            for method, operation in methods.items()]


def find(method, path):
    for known, pattern, name, responses in operations():
        if known == method and pattern.fullmatch(path):
            return name, responses
    return None, {}


def json_schema(responses, status):
    return responses.get(str(status), {}).get("content", {}).get(
        "application/json", {}).get("schema")


def with_json():
    """The names of the operations that answer with JSON."""
    return {name for *_, name, responses in operations()
            if any(json_schema(responses, status) for status in responses)}


@functools.cache
def checker(text):
    schema = exact({**json.loads(text), "components": {
        "schemas": description()["components"]["schemas"]}})
    return fastjsonschema.compile({
        "$schema": "http://json-schema.org/draft-07/schema#", **schema},
        use_default=False)


def check(method, path, answer):
    """Raises if the JSON of an answer is not what is described for it."""
    kind = answer.headers.get("Content-Type")
    if method == "HEAD":                # that of GET, without its body
        return
    if kind == "application/problem+json":
        schema = PROBLEM
    elif kind == "application/json":
        name, responses = find(method, path)
        schema = json_schema(responses, answer.status)
        assert schema, f"{name} has no answer {answer.status} with JSON"
    else:
        return
    checker(json.dumps(schema))(answer.json)
