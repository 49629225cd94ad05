# SPDX-License-Identifier: PostgreSQL
"""Requests that Debian's confluent-kafka 1.7 cannot send: rights, passwords.

Run as a program, with the newer client of dev/librdkafka in PYTHONPATH, it
reads requests from standard input and answers each with one line; KafkaAdmin
is the caller's side of it. A process of its own, because two librdkafkas do
not fit into one.
"""

import json
import os
import subprocess
import sys


class KafkaAdmin:
    """The program below, and its answers."""

    def __init__(self, brokers, python):
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-u", os.path.abspath(__file__), brokers],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": python})

    def send(self, request, **arguments):
        self.process.stdin.write(json.dumps([request, arguments]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '"it ended"')
        assert answer is None, f"{request}: {answer}"

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def serve(brokers):
    """Answer requests until standard input ends."""
    # pylint: disable=import-outside-toplevel
    from confluent_kafka import admin as kafka
    client = kafka.AdminClient({"bootstrap.servers": brokers})

    def finish(futures):
        for future in futures.values():
            future.result(30)

    def acls(kind, grants, user):
        return [kind(kafka.ResourceType[resource], name,
                     kafka.ResourcePatternType.LITERAL, f"User:{user}", "*",
                     kafka.AclOperation[operation],
                     kafka.AclPermissionType.ALLOW)
                for resource, name, operation in grants]

    def filters(grants, user):
        return acls(kafka.AclBindingFilter, grants, user)

    def wait_for(found, wanted):
        """The authorizer learns of a change a little after its answer."""
        while any(bool(client.describe_acls(one).result(30)) != wanted
                  for one in found):
            pass

    def allow(grants, user):
        finish(client.create_acls(acls(kafka.AclBinding, grants, user)))
        wait_for(filters(grants, user), True)

    def forbid(grants, user):
        finish(client.delete_acls(filters(grants, user)))
        wait_for(filters(grants, user), False)

    def forbid_all():
        all_of_them = kafka.AclBindingFilter(
            kafka.ResourceType.ANY, None, kafka.ResourcePatternType.ANY, None,
            None, kafka.AclOperation.ANY, kafka.AclPermissionType.ANY)
        finish(client.delete_acls([all_of_them]))
        wait_for([all_of_them], False)

    def scram(user, password):
        info = kafka.ScramCredentialInfo(kafka.ScramMechanism.SCRAM_SHA_512,
                                         4096)
        finish(client.alter_user_scram_credentials(
            [kafka.UserScramCredentialUpsertion(user, info,
                                                password.encode())]))

    requests = {"allow": allow, "forbid": forbid, "forbid_all": forbid_all,
                "scram": scram}
    for line in sys.stdin:
        request, arguments = json.loads(line)
        try:
            requests[request](**arguments)
            print("null")
        except Exception as error:  # pylint: disable=broad-exception-caught
            print(json.dumps(str(error)))


if __name__ == "__main__":
    serve(sys.argv[1])
