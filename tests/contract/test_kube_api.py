"""What the sandbox's Kubernetes API and the real one have in common: all that we rely on."""

import re
import time

import pytest

from crd.v1alpha1 import FINALIZER

PATIENCE_S = 120
PATIENCE = f"--timeout={PATIENCE_S}s"
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}}
CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Available",
    "message": "ok",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def refusal(answer):
    """Return code, reason and message of a Status."""
    body = answer.json()
    assert ("Status", "Failure", answer.status_code) == (
        body["kind"],
        body["status"],
        body["code"],
    )
    return body["code"], body.get("reason"), body["message"]


def revision(obj):
    return obj["metadata"]["resourceVersion"]


def names(listing):
    return [item["metadata"]["name"] for item in listing["items"]]


# Create, read, list


def test_a_new_object_gets_its_identity_from_the_server(kube):
    """uid, creationTimestamp and generation are not the client's to choose."""
    made = kube.create("phi", uid="mine", generation=7, creationTimestamp="2000-01-01T00:00:00Z")
    meta = made["metadata"]
    assert (1, kube.namespace) == (meta["generation"], meta["namespace"])
    assert meta["uid"] != "mine"
    assert re.fullmatch(r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert made == kube.get("phi")


def test_a_name_can_be_generated(kube):
    """What the client gives as generateName is its prefix."""
    body = {**kube.model(""), "metadata": {"generateName": "phi-"}}
    made = kube.client.post(kube.models, json=body).json()
    assert re.fullmatch(r"phi-\w{5}", made["metadata"]["name"])


def test_a_name_is_taken_once(kube):
    """The second create is 409 AlreadyExists."""
    kube.create("phi")
    code, reason, message = refusal(kube.client.post(kube.models, json=kube.model("phi")))
    assert (code, reason) == (409, "AlreadyExists")
    assert message == 'ollamamodels.ollama.smithforge.dev "phi" already exists'


def test_what_is_not_there_is_not_found(kube):
    """Get, patch, update and delete answer alike."""
    body = kube.model("phi", resourceVersion="1")
    answers = [
        kube.client.get(f"{kube.models}/phi"),
        kube.patch("phi", {}),
        kube.patch("phi/status", {"status": {"state": "Ready"}}),
        kube.put("phi", body),
        kube.delete("phi"),
    ]
    expected = (404, "NotFound", 'ollamamodels.ollama.smithforge.dev "phi" not found')
    assert [expected] * 5 == [refusal(answer) for answer in answers]


def test_pages_of_a_list_show_one_moment(kube):
    """What is written between two pages does not show in the second."""
    for name in ("a", "b", "c"):
        kube.create(name)
    first = kube.client.get(kube.models, params={"limit": "1"}).json()
    kube.delete("b")
    kube.create("bb")
    kube.patch("c", {"spec": {"tag": "new"}})
    rest = kube.client.get(kube.models, params={"continue": first["metadata"]["continue"]}).json()
    assert names(first) + names(rest) == ["a", "b", "c"]
    assert rest["items"][1]["spec"]["tag"] == "mini"
    assert revision(first) == revision(rest)
    assert first["metadata"]["remainingItemCount"] == 2
    assert not rest["metadata"].get("continue")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"labelSelector": "size=big"}, ["a"]),
        ({"labelSelector": "size!=big"}, ["b", "c"]),
        ({"labelSelector": "size"}, ["a", "b"]),
        ({"labelSelector": "!size"}, ["c"]),
        ({"labelSelector": "size==small,home=yes"}, ["b"]),
        ({"fieldSelector": "metadata.name=c"}, ["c"]),
        ({"fieldSelector": "metadata.name!=c"}, ["a", "b"]),
    ],
)
def test_selectors_narrow_a_list(kube, query, expected):
    """Equality forms of both selectors, and existence of a label."""
    kube.create("a", labels={"size": "big"})
    kube.create("b", labels={"size": "small", "home": "yes"})
    kube.create("c")
    assert expected == names(kube.client.get(kube.models, params=query).json())


def test_a_list_can_span_all_namespaces(kube):
    """Without a namespace in the path, a list has them all, and a field narrows it again."""
    kube.create("a")
    path = kube.models.replace(f"/namespaces/{kube.namespace}", "")
    query = {"fieldSelector": f"metadata.namespace={kube.namespace}"}
    assert names(kube.client.get(path, params=query).json()) == ["a"]
    assert "a" in names(kube.client.get(path).json())


# Write


def test_a_stale_write_is_a_conflict(kube):
    """An old resourceVersion makes any write 409, in the body of a patch as well."""
    old = kube.create("phi")
    kube.patch("phi", {"spec": {"tag": "new"}}).raise_for_status()
    stale = {"metadata": {"resourceVersion": revision(old)}}
    answers = [
        kube.put("phi", old),
        kube.put("phi/status", old),
        kube.patch("phi", stale),
        kube.patch("phi/status", {**stale, "status": {"state": "Ready"}}),
    ]
    assert [refusal(answer)[:2] for answer in answers] == [(409, "Conflict")] * 4
    assert "the object has been modified" in refusal(answers[0])[2]


def test_an_update_needs_a_resource_version(kube):
    """A PUT that does not say which state it replaces is 422."""
    kube.create("phi")
    code, reason, message = refusal(kube.put("phi", kube.model("phi")))
    assert (code, reason) == (422, "Invalid")
    assert "metadata.resourceVersion" in message


def test_an_update_is_for_one_uid(kube):
    """A PUT for a namesake's uid is 409; a patch cannot change the uid."""
    made = kube.create("phi")
    made["metadata"]["uid"] = "another"
    assert refusal(kube.put("phi", made))[:2] == (409, "Conflict")
    assert refusal(kube.put("phi/status", made))[:2] == (409, "Conflict")
    assert refusal(kube.patch("phi", {"metadata": {"uid": "another"}}))[:2] == (422, "Invalid")


def test_a_status_patch_ignores_the_uid(kube):
    """Only a resourceVersion protects a namesake from a status patch; a uid does not."""
    kube.create("phi")
    patch = {"metadata": {"uid": "another"}, "status": {"state": "Ready"}}
    assert kube.patch("phi/status", patch).status_code == 200
    assert kube.get("phi")["status"]["state"] == "Ready"


def test_a_name_on_the_url_must_be_the_name_in_the_body(kube):
    """Nothing is renamed."""
    made = kube.create("phi")
    made["metadata"]["name"] = "psi"
    expected = (400, "the name of the object (psi) does not match the name on the URL (phi)")
    assert expected == refusal(kube.put("phi", made))[::2]
    assert expected == refusal(kube.patch("phi", {"metadata": {"name": "psi"}}))[::2]


def test_status_and_the_rest_are_written_apart(kube):
    """The main resource never changes status; the subresource changes nothing else."""
    kube.client.post(kube.models, json={**kube.model("phi"), "status": {"state": "Ready"}})
    assert kube.get("phi")["status"] == {"observedGeneration": -1}
    everything = {
        "metadata": {"annotations": {"a": "b"}, "finalizers": [FINALIZER]},
        "spec": {"tag": "new"},
        "status": {"state": "Pulling"},
    }
    kube.patch("phi/status", everything).raise_for_status()
    seen = kube.get("phi")
    assert (seen["spec"]["tag"], seen["status"]["state"]) == ("mini", "Pulling")
    assert not {"annotations", "finalizers"} & set(seen["metadata"])
    kube.patch("phi", {**everything, "status": {"state": "Failed"}}).raise_for_status()
    seen = kube.get("phi")
    assert (seen["spec"]["tag"], seen["status"]["state"]) == ("new", "Pulling")
    kube.put("phi", {**seen, "status": {"state": "Ready"}}).raise_for_status()
    kube.put(
        "phi/status", {**kube.get("phi"), "spec": {"name": "x", "tag": "y"}}
    ).raise_for_status()
    seen = kube.get("phi")
    assert (seen["spec"]["tag"], seen["status"]["state"]) == ("new", "Pulling")


def test_the_generation_follows_the_spec(kube):
    """It rises with the spec and with the beginning of deletion, with nothing else."""
    kube.create("phi", finalizers=[FINALIZER])
    steps = [
        kube.patch("phi", {"metadata": {"annotations": {"a": "b"}}}),
        kube.patch("phi/status", {"status": {"state": "Ready"}}),
        kube.patch("phi", {"spec": {"tag": "new"}}),
        kube.patch("phi", {"spec": {"tag": "new"}}),
        kube.delete("phi"),
        kube.delete("phi"),
    ]
    assert [step.json()["metadata"]["generation"] for step in steps] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("path", ["phi", "phi/status"])
def test_a_write_that_changes_nothing_is_none(kube, path):
    """It keeps the resourceVersion, and no watch hears of it."""
    kube.create("phi")
    patch = {"spec": {"tag": "new"}, "status": {"state": "Ready"}}
    before = kube.patch(path, patch).json()
    time.sleep(1.1)  # so that a timestamp with seconds would differ
    after = kube.patch(path, patch).json()
    assert before == after
    assert kube.watch(revision(before)) == []


def test_a_merge_patch_removes_what_is_null(kube):
    """A list is replaced as a whole, and a null inside it counts as absent too."""
    kube.create("phi")
    first = {"state": "Failed", "error": "x", "conditions": [CONDITION, {**CONDITION, "type": "A"}]}
    kube.patch("phi/status", {"status": first}).raise_for_status()
    condition = {**CONDITION, "observedGeneration": None}
    second = {"error": None, "digest": None, "conditions": [condition]}
    kube.patch("phi/status", {"status": second}).raise_for_status()
    expected = {"observedGeneration": -1, "state": "Failed", "conditions": [CONDITION]}
    assert expected == kube.get("phi")["status"]


def test_a_json_patch_can_test_first(kube):
    """If the test fails, nothing is written."""
    kube.create("phi")
    replace = {"op": "replace", "path": "/spec/tag", "value": "new"}
    test = {"op": "test", "path": "/spec/tag", "value": "other"}
    kind = "json-patch+json"
    assert refusal(kube.patch("phi", [test, replace], kind))[:2] == (422, "Invalid")
    assert kube.get("phi")["spec"]["tag"] == "mini"
    assert kube.patch("phi", [replace], kind).json()["spec"]["tag"] == "new"


def test_custom_resources_have_no_strategic_merge(kube):
    """It is 415 UnsupportedMediaType."""
    kube.create("phi")
    answer = kube.patch("phi", {}, "strategic-merge-patch+json")
    assert refusal(answer)[:2] == (415, "UnsupportedMediaType")


# Delete


def test_without_finalizers_an_object_goes_at_once(kube):
    """The answer is a Status with the uid that went."""
    made = kube.create("phi")
    answer = kube.delete("phi").json()
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert made["metadata"]["uid"] == answer["details"]["uid"]
    assert kube.delete("phi").status_code == 404


def test_a_finalizer_holds_an_object_until_it_is_removed(kube):
    """Deletion only marks it, once; the removal of the last finalizer lets it go."""
    kube.create("phi", finalizers=[FINALIZER, "test/other"])
    marked = kube.delete("phi").json()
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert marked == kube.delete("phi").json()
    kube.patch("phi/status", {"status": {"state": "Pending"}}).raise_for_status()
    kube.patch("phi", {"metadata": {"finalizers": ["test/other"]}}).raise_for_status()
    kept = kube.get("phi")["metadata"]
    assert marked["metadata"]["deletionTimestamp"] == kept["deletionTimestamp"]
    kube.patch("phi", {"metadata": {"finalizers": None}}).raise_for_status()
    assert kube.client.get(f"{kube.models}/phi").status_code == 404


def test_a_dying_object_takes_no_new_finalizer(kube):
    """The one way out is forward."""
    kube.create("phi", finalizers=["test/one"])
    kube.delete("phi")
    answer = kube.patch("phi", {"metadata": {"finalizers": ["test/one", "test/two"]}})
    code, reason, message = refusal(answer)
    assert (code, reason) == (422, "Invalid")
    assert "no new finalizers can be added if the object is being deleted" in message


def test_a_deletion_can_have_preconditions(kube):
    """A uid or a resourceVersion that is no longer true makes it 409."""
    made = kube.create("phi")
    kube.patch("phi", {"spec": {"tag": "new"}}).raise_for_status()
    assert refusal(kube.delete("phi", uid="another"))[:2] == (409, "Conflict")
    assert refusal(kube.delete("phi", resourceVersion=revision(made)))[:2] == (409, "Conflict")
    assert kube.delete("phi", uid=made["metadata"]["uid"]).status_code == 200


def test_a_collection_can_be_deleted(kube):
    """All that the selector takes goes; what has finalizers is marked."""
    kube.create("a", labels={"go": "yes"})
    kube.create("b", labels={"go": "yes"}, finalizers=[FINALIZER])
    kube.create("c")
    kube.client.delete(kube.models, params={"labelSelector": "go=yes"}).raise_for_status()
    left = kube.client.get(kube.models).json()
    assert names(left) == ["b", "c"]
    marks = ["deletionTimestamp" in item["metadata"] for item in left["items"]]
    assert marks == [True, False]


# Watch


def test_a_watch_resumes_without_a_gap(kube):
    """From a list's resourceVersion, and from any event's, it has every change once."""
    begin = revision(kube.client.get(kube.models).json())
    kube.create("phi", finalizers=[FINALIZER])
    kube.patch("phi/status", {"status": {"state": "Ready"}})
    kube.delete("phi")
    kube.patch("phi", {"metadata": {"finalizers": None}})
    events = kube.watch(begin)
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    for number, event in enumerate(events, start=1):
        assert events[number:] == kube.watch(revision(event["object"]))


def test_a_deletion_has_a_revision_of_its_own(kube):
    """The last event shows the last state, under a resourceVersion that one can resume from."""
    made = kube.create("phi")
    kube.delete("phi")
    (event,) = kube.watch(revision(made))
    assert ("DELETED", made["spec"]) == (event["type"], event["object"]["spec"])
    assert int(revision(event["object"])) > int(revision(made))


def test_a_watch_without_a_resource_version_begins_with_what_is_there(kube):
    """As ADDED events, and then a bookmark that says so if bookmarks are wanted."""
    kube.create("a")
    kube.create("b")
    events = kube.watch(None, allowWatchBookmarks="true")
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
    mark = events[-1]["object"]["metadata"]
    assert mark["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["resourceVersion"]) >= int(revision(events[1]["object"]))


def test_the_initial_events_can_be_asked_for(kube):
    """`sendInitialEvents`, as newer kubectls ask for it, does the same."""
    kube.create("a")
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    events = kube.watch("", allowWatchBookmarks="true", **query)
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]


def test_a_bookmark_comes_before_a_watch_times_out(kube):
    """So that a client can resume from close to the end; but never one that says nothing new."""
    begin = revision(kube.create("phi"))
    asked = {"seconds": 3, "allowWatchBookmarks": "true"}
    assert kube.watch(begin, **asked) == []
    events = kube.watch(begin, meanwhile=lambda: kube.create("psi"), **asked)
    added, *marks = events
    assert (added["type"], {mark["type"] for mark in marks}) == ("ADDED", {"BOOKMARK"})
    assert int(revision(marks[-1]["object"])) >= int(revision(added["object"]))


def test_an_old_resource_version_is_expired(kube):
    """The stream is 200 all the same, and its one event a 410."""
    kube.compact()
    (event,) = kube.watch("1")
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_a_watch_of_the_future_is_silent(kube):
    """It is taken, and has neither an event nor a bookmark: not even of what happens meanwhile."""
    begin = str(int(revision(kube.create("phi"))) + 1000)
    asked = {"seconds": 3, "allowWatchBookmarks": "true"}
    assert kube.watch(begin, meanwhile=lambda: kube.create("psi"), **asked) == []


def test_a_selecting_watch_sees_objects_come_and_go(kube):
    """Whoever leaves the selection is DELETED, whoever enters is ADDED."""
    begin = revision(kube.create("phi"))
    for size in ("big", "big", "small"):
        kube.patch("phi", {"metadata": {"labels": {"size": size, "at": str(time.time_ns())}}})
    events = kube.watch(begin, labelSelector="size=big")
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]


# Validation


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"name": "phi3"}, "spec.tag: Required value"),
        ({"name": "phi3", "tag": None}, "spec.tag: Required value"),
        (
            {"name": 3, "tag": "t"},
            (
                'spec.name: Invalid value: "integer": spec.name in body must be of type string:'
                ' "integer"'
            ),
        ),
        (
            {"name": "", "tag": "t"},
            'spec.name: Invalid value: "": spec.name in body should be at least 1 chars long',
        ),
        ({"name": "n", "tag": "t" * 256}, "spec.tag: Too long: may not be more than 255 bytes"),
    ],
)
def test_the_schema_is_kept(kube, spec, expected):
    """What is wrong is 422 Invalid, with the field and the reason in words and as a cause."""
    answer = kube.client.post(kube.models, json=kube.model("phi", spec))
    prefix = 'OllamaModel.ollama.smithforge.dev "phi" is invalid: '
    assert (422, "Invalid", prefix + expected) == refusal(answer)
    field, _, message = expected.partition(": ")
    (cause,) = answer.json()["details"]["causes"]
    assert (field, message) == (cause["field"], cause["message"])


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"state": "Splendid"}, "status.state"),
        ({"size": -1}, "status.size"),
        ({"size": "1"}, "status.size"),
        ({"error": "x" * 1025}, "status.error"),
        ({"lastPullTime": "yesterday"}, "status.lastPullTime"),
        ({"conditions": [CONDITION, CONDITION]}, "status.conditions[1]"),
        ({"conditions": [{**CONDITION, "status": "Perhaps"}]}, "status.conditions[0].status"),
        ({"conditions": [{"type": "Ready"}]}, "status.conditions[0].status"),
    ],
)
def test_the_schema_of_the_status_is_kept_too(kube, status, field):
    """The operator's own writes are checked."""
    kube.create("phi")
    answer = kube.patch("phi/status", {"status": status})
    assert refusal(answer)[:2] == (422, "Invalid")
    assert field in [cause["field"] for cause in answer.json()["details"]["causes"]]


def test_unknown_fields_are_dropped_or_refused(kube):
    """Dropped by default; refused by name where the client asks for strictness, as kubectl does."""
    body = kube.model("phi", {"name": "n", "tag": "t", "tga": "x"})
    answer = kube.client.post(kube.models, json=body, params={"fieldValidation": "Strict"})
    code, _, message = refusal(answer)
    assert code == 400
    assert 'strict decoding error: unknown field "spec.tga"' in message
    assert kube.client.post(kube.models, json=body).json()["spec"] == {"name": "n", "tag": "t"}


@pytest.mark.parametrize(
    ("metadata", "code", "words"),
    [
        ({"name": "Phi_3"}, 422, "a lowercase RFC 1123 subdomain must consist of"),
        ({"name": "p" * 254}, 422, "metadata.name"),
        ({"name": ""}, 422, "metadata.name: Required value: name or generateName is required"),
        ({"name": "", "generateName": "phi."}, 422, "metadata.generateName: Invalid value"),
        ({"annotations": {"a": "x" * 2**18}}, 422, "metadata.annotations: Too long"),
        ({"annotations": {"a": 1}}, 400, ""),
        ({"namespace": "elsewhere"}, 400, "the namespace of the provided object does not match"),
    ],
)
def test_metadata_is_checked(kube, metadata, code, words):
    """Names, sizes and types."""
    answer = kube.client.post(kube.models, json=kube.model(**{"name": "phi", **metadata}))
    found, _, message = refusal(answer)
    assert code == found
    assert words in message


def test_a_body_has_a_limit(kube):
    """3 MiB; more is 413."""
    headers = {"content-type": "application/json"}
    answer = kube.client.post(kube.models, content=b"{" + b" " * 3 * 2**20, headers=headers)
    assert refusal(answer)[:2] == (413, "RequestEntityTooLarge")


# Other resources, and what clients ask first


def test_a_lease_changes_hands_only_with_its_resource_version(kube):
    """Of two that try to take it, one gets 409."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases"
    lease = kube.client.post(path, json=LEASE).json()
    first = kube.client.put(f"{path}/leader", json={**lease, "spec": {"holderIdentity": "a"}})
    second = kube.client.put(f"{path}/leader", json={**lease, "spec": {"holderIdentity": "b"}})
    assert (first.status_code, second.status_code) == (200, 409)
    assert "generation" not in first.json()["metadata"]


def test_an_event_shows_in_both_versions(kube):
    """What is written to events.k8s.io reads as a core event under the names of old."""
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "phi-"},
        "regarding": {"kind": "OllamaModel", "name": "phi", "namespace": kube.namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test/controller",
        "reportingInstance": "one",
        "action": "Pull",
        "reason": "RefreshStarted",
        "note": "hello",
        "type": "Normal",
    }
    path = f"/apis/events.k8s.io/v1/namespaces/{kube.namespace}/events"
    answer = kube.client.post(path, json=event)
    assert answer.status_code == 201, answer.text
    query = {"fieldSelector": "involvedObject.name=phi,type=Normal"}
    answer = kube.client.get(f"/api/v1/namespaces/{kube.namespace}/events", params=query)
    (seen,) = answer.json()["items"]
    found = seen["message"], seen["involvedObject"]["name"], seen["reportingComponent"]
    assert found == ("hello", "phi", "test/controller")


def test_a_table_has_the_columns_of_the_crd(kube):
    """For a list, for one object and for a watch, where only the first event is headed."""
    begin = revision(kube.create("phi"))
    status = {"state": "Ready", "conditions": [CONDITION]}
    kube.patch("phi/status", {"status": status}).raise_for_status()
    table = kube.client.get(kube.models, headers=TABLE).json()
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[:7] == ["Name", "Tag", "State", "Size", "Age", "Ready", "Reason"]
    (row,) = table["rows"]
    assert row["cells"][:4] == ["phi", "mini", "Ready", None]
    assert re.fullmatch(r"\d+s", row["cells"][4])
    assert row["cells"][5:7] == ["True", "Available"]
    assert (
        row["object"]["kind"],
        row["object"]["metadata"]["name"],
    ) == ("PartialObjectMetadata", "phi")
    assert len(kube.client.get(f"{kube.models}/phi", headers=TABLE).json()["rows"]) == 1
    kube.delete("phi")
    query = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": begin}
    lines = kube.client.get(kube.models, headers=TABLE, params=query).content.splitlines()
    assert len(lines) == 2
    assert [b'"columnDefinitions":null' in line for line in lines] == [False, True]


def test_the_administrator_may_do_everything(kube):
    """A SelfSubjectAccessReview says so."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "ollamamodels"}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert kube.client.post(path, json=review).json()["status"]["allowed"]


# kubectl, which is built with the real parts


@pytest.mark.real
def test_kubectl_applies_and_shows(kube):
    """Apply creates, updates and sees that nothing changed; get and describe show it."""
    model = kube.model("phi")
    applied = [kube.kubectl("apply", "-f", "-", body=model)]
    model["spec"]["tag"] = "medium"
    applied += [kube.kubectl("apply", "-f", "-", body=model) for _ in range(2)]
    assert [line.split()[-1] for line in applied] == ["created", "configured", "unchanged"]
    heading, line = kube.kubectl("get", "om").splitlines()
    assert heading.split()[:6] == ["NAME", "TAG", "STATE", "SIZE", "AGE", "READY"]
    assert line.split()[:2] == ["phi", "medium"]
    assert "MODEL" in kube.kubectl("get", "ollama", "-o", "wide")
    assert "phi" in kube.kubectl("get", "om", "-A")
    kube.kubectl("annotate", "om", "phi", "ollama.smithforge.dev/refresh=true")
    assert "ollama.smithforge.dev/refresh: true" in kube.kubectl("describe", "om", "phi")


@pytest.mark.real
def test_kubectl_catches_typing_errors(kube):
    """A field that does not exist, and a value that is missing."""
    typo = kube.model("phi", {"name": "n", "tag": "t", "tga": "x"})
    assert 'unknown field "spec.tga"' in kube.kubectl("apply", "-f", "-", body=typo, ok=False)
    short = kube.model("phi", {"name": "n"})
    assert "spec.tag: Required value" in kube.kubectl("apply", "-f", "-", body=short, ok=False)


@pytest.mark.real
@pytest.mark.parametrize(
    ("goal", "patch"),
    [
        ("condition=Ready", {"status": {"observedGeneration": 1, "conditions": [CONDITION]}}),
        ("jsonpath={.status.state}=Ready", {"status": {"state": "Ready"}}),
    ],
)
def test_kubectl_waits(kube, goal, patch):
    """For a condition or a value that comes later."""
    kube.create("phi")
    with kube.kubectl_beside("wait", f"--for={goal}", "om/phi", PATIENCE) as waiting:
        time.sleep(0.5)
        kube.patch("phi/status", patch).raise_for_status()
        assert waiting.wait(timeout=PATIENCE_S) == 0


@pytest.mark.real
def test_kubectl_deletes_and_waits_for_the_finalizers(kube):
    """`delete` returns only when the object is gone, and so does `wait --for=delete`."""
    kube.create("phi", finalizers=[FINALIZER])
    with (
        kube.kubectl_beside("delete", "om", "--all") as deleting,
        kube.kubectl_beside("wait", "--for=delete", "om/phi", PATIENCE) as waiting,
    ):
        while "deletionTimestamp" not in kube.get("phi")["metadata"]:
            time.sleep(0.05)
        time.sleep(0.5)
        assert (deleting.poll(), waiting.poll()) == (None, None)
        kube.patch("phi", {"metadata": {"finalizers": None}}).raise_for_status()
        assert (deleting.wait(timeout=PATIENCE_S), waiting.wait(timeout=PATIENCE_S)) == (0, 0)
    assert "NotFound" in kube.kubectl("get", "om", "phi", ok=False)


@pytest.mark.real
def test_kubectl_watches(kube):
    """`get -w` prints a line for what is there and one for each change."""
    kube.create("phi")
    with kube.kubectl_beside("get", "om", "-w") as watching:
        assert watching.stdout.readline().startswith("NAME")
        assert "phi" in watching.stdout.readline()
        kube.patch("phi/status", {"status": {"state": "Ready"}}).raise_for_status()
        assert "Ready" in watching.stdout.readline()


@pytest.mark.real
def test_kubectl_explains(kube):
    """Field descriptions and the list of resources come from the server."""
    assert "-required-" in kube.kubectl("explain", "om.spec")
    assert "ollamamodels" in kube.kubectl("api-resources")
    assert "yes" in kube.kubectl("auth", "can-i", "create", "om")
    assert "ollamamodels.ollama.smithforge.dev" in kube.kubectl("get", "crd")
