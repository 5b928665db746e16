# SPDX-License-Identifier: MIT
"""The documents' curl commands, run by a shell against the started service: host, token and the ids
in braces replaced, nothing else. Each answer is held against the document's example, member by
member and in its order. tests/documents/*.json have both word for word (documents_test.py holds
them against the documents).

By shape, not by value: times of the change itself (updated_at, ..._configured_at), which are the
present; masks and the API key's "success", where the example has a placeholder. The Keycard command
has no header for a token, so curl's own configuration brings it; and the API key's document has no
command at all, so one is put together from its parts."""
import datetime
import json
import os
import re
import subprocess
import sys

from service import ROOT, Service, tally, work_folder

SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PRESENT = object()  # a time of the last minutes


def document(name):
    with open(os.path.join(ROOT, "tests", "documents", f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)


class Curl:
    """Runs a command as it stands; what it lacks comes from a configuration file."""

    def __init__(self, folder, service):
        self.folder, self.service = folder, service

    def run(self, command, bearer=None, **variables):
        head = os.path.join(self.folder, "head")
        with open(os.path.join(self.folder, ".curlrc"), "w", encoding="ascii") as file:
            file.write(f'silent\nshow-error\nmax-time = 60\ndump-header = "{head}"\n')
            if bearer:
                file.write(f'header = "Authorization: Bearer {bearer}"\n')
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False,
                              env={"PATH": os.environ["PATH"], "CURL_HOME": self.folder,
                                   "no_proxy": "*", **variables})
        tally.check(done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr}")
        with open(head, encoding="latin-1") as file:
            lines = file.read().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return int(lines[0].split()[1]), headers, done.stdout


def moved(command, host, service, **others):
    """The command on this service. Each text that is replaced has to be there."""
    for old, new in {host: service.listening, **others}.items():
        tally.check(old in command, f"the command does not say {old}")
        command = command.replace(old, new)
    return command


def is_present(text):
    if not SECONDS.fullmatch(text or ""):
        return False
    then = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return abs(now - then) < datetime.timedelta(minutes=5)


def compare(what, answer, example, status=200, shaped=None):
    """shaped: the members that are not as in the example."""
    code, headers, body = answer
    tally.same((code, headers.get("content-type")), (status, "application/json"), what)
    tally.check(re.fullmatch(r'"\d+"', headers.get("etag", "")), f"{what}: the ETag")
    tally.same(headers.get("cache-control"), "no-store", f"{what}: Cache-Control")
    got, want = json.loads(body), json.loads(example)
    tally.same(list(got), list(want), f"{what}: the members, in their order")
    for name, value in want.items():
        value = (shaped or {}).get(name, value)
        if value is PRESENT:
            tally.check(is_present(got.get(name)), f"{what}: {name} is {got.get(name)}")
        else:
            tally.same(got.get(name), value, f"{what}: {name}")
    return headers.get("etag")


def checkbook(curl):
    doc, service = document("checkbook"), curl.service
    command = moved(doc["command"], "https://api.platform.dakota.xyz", service,
                    **{"<api-key>": service.api_key, "{id}": service.checkbook_id})
    tags = [compare("Checkbook", curl.run(command), doc["answer"], shaped={"updated_at": PRESENT})
            for _ in range(2)]
    tally.same(tags, ['"2"', '"2"'], "Checkbook: the same twice is one change")


def stripe(curl):
    doc, service = document("stripe"), curl.service
    example = json.loads(doc["answer"])
    shaped = {name: "...g>" for name in example if name.endswith("_masked")}
    for name in ("updated_at", "test_configured_at", "live_configured_at"):
        shaped[name] = PRESENT
    command = moved(doc["command"], "https://api.devkit4ai.com", service,
                    **{"<token>": service.admin_token, "{project_id}": service.project_id})
    compare("Stripe", curl.run(command), doc["answer"], shaped=shaped)
    real = command.replace('"test_secret_key": "<string>"',
                           '"test_secret_key": "sk_test_51Hq8Jc3Ny7Pf2Sa0Gt4242"')
    compare("Stripe, a real key", curl.run(real), doc["answer"],
            shaped={**shaped, "test_secret_key_masked": "sk_test_...4242"})


def service_credential(curl):
    doc, service = document("service_credential"), curl.service
    command = moved(doc["command"], "https://api.keycard.ai", service)
    names = {"SERVICE_ACCOUNT_ID": service.service_account_id,
             "CREDENTIAL_ID": json.loads(doc["answer"])["id"]}
    tally.same(service.credential_id, names["CREDENTIAL_ID"], "the document's own id")
    example = json.loads(doc["answer"])
    permissions = example.pop("permissions")
    for organization in (service.organization_id, service.organization_label):
        answer = curl.run(command, service.admin_token, ORGANIZATION_ID=organization, **names)
        compare("service credential", answer, json.dumps(example))
    # "Only populated when ...": the example shows what this query brings.
    url = command.split()[1]
    wide = command.replace(url, f"-g '{url}?expand[]=permissions'")
    for name, value in {"ORGANIZATION_ID": service.organization_id, **names}.items():
        wide = wide.replace(f"${name}", value)
    answer = curl.run(wide + f" -H 'X-Client-Request-ID: {service.project_id}'",
                      service.admin_token)
    # The document's two resources as it shows them; then this service's others.
    got = json.loads(answer[2])["permissions"]
    tally.same({name: got.get(name) for name in permissions}, permissions, "the permissions")
    compare("service credential, expanded", answer, doc["answer"], shaped={"permissions": got})
    answer = curl.run(wide + " -H 'X-Client-Request-ID: 4711'", service.admin_token)
    tally.same(answer[0], 400, "a request id that is no UUID")


def api_key(curl):
    doc, service = document("api_key"), curl.service
    method, path = doc["endpoint"].split()
    for body in doc["requests"]:
        body = body.replace('"expiresAt": "string"', '"expiresAt": "2123-11-07T05:31:56Z"')
        for account in ("", f"-H 'x-account-id: {service.organization_id}' "):
            command = (f"curl -X {method} {service.listening}{path} {account}"
                       f"-H 'Authorization: Bearer {{token}}' "
                       f"-H 'Content-Type: application/json' -d '{body}'")
            command = command.replace("{token}", service.admin_token)
            compare("API key", curl.run(command.replace("{id}", service.api_key_id)),
                    doc["answer"], shaped={"success": True})
    code, _, text = curl.run(command.replace("{id}", "nobody"))
    tally.same((code, json.loads(text)), (404, json.loads(doc["not_found"])), "an unknown key")


def main():
    folder = work_folder()
    service = Service(folder)
    for part in (checkbook, stripe, service_credential, api_key):
        part(Curl(folder, service))
    ids = {name: value for name, value in service.told.items() if name.endswith(("_id", "label"))}
    tokens = (service.admin_token, service.member_token, service.api_key)
    service.stop()

    # Again on the same store: the same records as they are now, new tokens, the old ones are void.
    service = Service(folder)
    tally.same({name: service.told.get(name) for name in ids}, ids, "the ids of a second start")
    tally.check(not set(tokens) & {service.admin_token, service.member_token, service.api_key},
                "a token came back")
    doc = document("checkbook")
    command = moved(doc["command"], "https://api.platform.dakota.xyz", service,
                    **{"{id}": service.checkbook_id})
    curl = Curl(folder, service)
    tally.same(curl.run(command.replace("<api-key>", tokens[2]))[0], 401, "the old API key")
    tag = compare("Checkbook after a restart",
                  curl.run(command.replace("<api-key>", service.api_key)), doc["answer"],
                  shaped={"updated_at": PRESENT})
    tally.same(tag, '"2"', "Checkbook after a restart")
    service.stop()
    tally.end()


if __name__ == "__main__":
    sys.exit(main())
