"""Makes one vendor's own Python client do once what Holdfast does, against a receiver.

    drive.py CALL URL

Exits with 0 when the client was satisfied, 3 when it is not installed, 1 otherwise. The credentials
are those of the Rust test, which compares what both sent.
"""

import sys
from datetime import datetime, timezone

TITLE = "sshd: brute force trying to get access to the system. on web01"
TEXT = "sshd: brute force\nLevel 10 (high)\nEvent abcdefghij-1"
KEY = "abcdefghij-1.lane"
ADDRESS = "203.0.113.9"
AT = "2026-03-10T06:02:17.173Z"


def pagerduty(url):
    import pagerduty

    client = pagerduty.EventsApiV2Client("0123456789abcdef0123456789abcdef")
    # By its front door it takes https alone.
    client._url = url
    client.trigger(
        TITLE, "web01", dedup_key=KEY, severity="error", custom_details={"Level": "10", "alert": {}},
        payload={"component": "rule 5712", "group": "syslog", "class": "sshd", "timestamp": AT},
    )


def opsgenie(url):
    import opsgenie_sdk

    settings = opsgenie_sdk.configuration.Configuration()
    settings.host = url
    settings.api_key["Authorization"] = "00000000-1111-2222-3333-444444444444"
    api = opsgenie_sdk.AlertApi(opsgenie_sdk.api_client.ApiClient(configuration=settings))
    api.create_alert(opsgenie_sdk.CreateAlertPayload(
        message=TITLE[:130], alias=KEY, description=TEXT, entity="web01", source="wazuh", priority="P2",
        tags=["wazuh"], details={"Rule": "5712"}, responders=[{"name": "SOC", "type": "team"}],
    ))


def jira(url, version):
    from jira import JIRA

    fields = {
        "project": {"key": "SEC"}, "issuetype": {"name": "Task"}, "summary": TITLE,
        "labels": ["wazuh"], "priority": {"name": "High"}, "description": TEXT,
    }
    if version == "3":
        text = {"type": "text", "text": TEXT}
        paragraph = {"type": "paragraph", "content": [text]}
        fields["description"] = {"type": "doc", "version": 1, "content": [paragraph]}
    options = {"rest_api_version": version}
    who = {"basic_auth": ("holdfast@example.com", "jira-secret")}
    if version == "2":
        who = {"token_auth": "jira-secret"}
    client = JIRA(server=url, options=options, get_server_info=False, max_retries=0, **who)
    client.create_issue(fields=fields, prefetch=False)


def thehive(url):
    from thehive4py import TheHiveApi

    TheHiveApi(url, apikey="thehive-secret", organisation="soc").alert.create({
        "type": "wazuh", "source": "holdfast", "sourceRef": KEY, "title": TITLE,
        "description": TEXT, "severity": 3, "date": 1773122537173, "tags": ["wazuh"],
        "tlp": 2, "pap": 2,
        "observables": [{"dataType": "ip", "data": ADDRESS, "message": "data.srcip", "tlp": 2, "pap": 2}],
    })


def misp(url):
    from pymisp import PyMISP

    return PyMISP(url, "misp-secret")


def misp_event(url):
    from pymisp import MISPEvent

    client = misp(url)
    event = MISPEvent()
    event.from_dict(info=TITLE, date="2026-03-10", distribution=0, threat_level_id=1, analysis=0,
                    published=False, uuid="89c243a3-bb7a-52b9-88fe-3e598f7940e2")
    event.add_attribute("text", TEXT, category="Other", to_ids=False, distribution=5, comment=KEY)
    event.add_attribute("ip-src", ADDRESS, category="Network activity", to_ids=False,
                        distribution=5, comment=TITLE, first_seen=AT)
    event.add_tag("tlp:amber")
    client.add_event(event)


def misp_sighting(url):
    misp(url).add_sighting({"values": [ADDRESS], "type": "0", "source": f"Wazuh {KEY}",
                            "timestamp": 1773122537})


def misp_warninglists(url):
    misp(url).values_in_warninglist([ADDRESS])


def opencti(url):
    from pycti import OpenCTIApiClient

    return OpenCTIApiClient(url, "11111111-2222-4333-8444-555555555555", log_level="error",
                            perform_health_check=False)


MARKING = ["marking-definition--f88d31f6-486f-44da-b317-01333bde0b82"]
SYSTEM = "identity--6384d70e-3e7e-5ea0-90a1-a9f589a60d30"


def opencti_incident(url):
    opencti(url).incident.create(
        stix_id="incident--89c243a3-bb7a-52b9-88fe-3e598f7940e2", name=TITLE, description=TEXT,
        incident_type="alert", severity="high", source="Wazuh", first_seen=AT, last_seen=AT,
        created=AT, createdBy=SYSTEM, objectMarking=MARKING, objectLabel=["wazuh"],
    )


def opencti_indicator(url):
    opencti(url).indicator.create(
        name=ADDRESS, pattern=f"[ipv4-addr:value = '{ADDRESS}']", pattern_type="stix",
        description=TEXT, valid_from=AT, x_opencti_score=50, createdBy=SYSTEM,
        x_opencti_main_observable_type="IPv4-Addr", x_opencti_create_observables=True,
        objectMarking=MARKING, objectLabel=["wazuh"],
    )


def opencti_sighting(url):
    opencti(url).stix_sighting_relationship.create(
        stix_id="sighting--89c243a3-bb7a-52b9-88fe-3e598f7940e2", fromId="i1", toId=SYSTEM,
        count=1, first_seen=AT, last_seen=AT, description=TEXT, createdBy=SYSTEM,
        objectMarking=MARKING, objectLabel=["wazuh"],
    )


def slack_bot(url):
    from slack_sdk import WebClient

    # Slack's own way to say what a message holds: text for notifications, attachments for colour.
    WebClient("slack-secret-token", base_url=f"{url}/api/").chat_postMessage(
        channel="C0123456789", text=TITLE, unfurl_links=False, unfurl_media=False,
        attachments=[{"color": "danger", "fallback": TITLE, "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": TEXT}}]}],
        metadata={"event_type": "wazuh_alert", "event_payload": {"key": KEY}},
    )


def slack_webhook(url):
    from slack_sdk.webhook import WebhookClient

    WebhookClient(f"{url}/services/T0/B0/x").send(text=TITLE, attachments=[
        {"color": "danger", "fallback": TITLE, "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": TEXT}}]}])


def telegram(url):
    import asyncio

    from telegram import Bot, LinkPreviewOptions

    async def send():
        bot = Bot("123456789:telegram-secret", base_url=f"{url}/bot")
        await bot.send_message(-1001234567890, TEXT, parse_mode="HTML",
                               link_preview_options=LinkPreviewOptions(is_disabled=True))

    asyncio.run(send())


def elasticsearch(url):
    from elasticsearch import Elasticsearch

    client = Elasticsearch(url, api_key="ZWxhc3RpYzpzZWNyZXQ=", max_retries=0)
    client.bulk(operations=[{"create": {"_index": "holdfast-alerts", "_id": KEY}},
                            {"@timestamp": AT, "rule": {"level": 10, "id": "5712"}}])


def opensearch(url):
    from opensearchpy import OpenSearch

    client = OpenSearch(url, http_auth=("holdfast", "opensearch-secret"), max_retries=0)
    client.bulk(body=[{"create": {"_index": "holdfast-alerts", "_id": KEY}},
                      {"@timestamp": AT, "rule": {"level": 10, "id": "5712"}}])


def splunk(url):
    import logging

    from splunk_hec_handler import SplunkHecHandler

    host, port = url.removeprefix("http://").split(":")
    handler = SplunkHecHandler(host, "12345678-1234-1234-1234-1234567890ab", port=port,
                               proto="http", source="holdfast", sourcetype="wazuh:alert",
                               index="wazuh", hostname="web01")
    logger = logging.Logger("splunk")
    logger.addHandler(handler)
    logger.error({"time": datetime.now(timezone.utc).timestamp(), "rule": {"level": 10},
                  "fields": {"holdfast_key": KEY}})


def xsoar(url, version):
    import demisto_client
    from demisto_client.demisto_api.models import CreateIncidentRequest

    more = {"auth_id": "7"} if version == "8" else {}
    client = demisto_client.configure(base_url=url, api_key="xsoar-secret", verify_ssl=False, **more)
    client.create_incident(create_incident_request=CreateIncidentRequest(
        name=TITLE, type="Wazuh Alert", severity=3, details=TEXT, create_investigation=True,
        occurred=AT, custom_fields={"holdfastkey": KEY}, labels=[{"type": "Agent", "value": "web01"}],
    ))


def servicenow(url):
    import pysnow

    client = pysnow.Client(host=url.removeprefix("http://"), user="holdfast",
                           password="servicenow-secret", use_ssl=False)
    client.resource(api_path="/table/incident").create({
        "short_description": TITLE[:160], "description": TEXT, "correlation_id": KEY,
        "correlation_display": "Holdfast", "impact": "2", "urgency": "2", "category": "security",
    })


def discord(url):
    from discord_webhook import DiscordEmbed, DiscordWebhook

    webhook = DiscordWebhook(url=f"{url}/api/webhooks/1/discord-secret", username="Holdfast", timeout=30)
    embed = DiscordEmbed(title=TITLE, description=TEXT, color=0xE67E22)
    embed.add_embed_field(name="Rule", value="5712", inline=True)
    webhook.add_embed(embed)
    webhook.execute().raise_for_status()


CALLS = {
    "pagerduty": pagerduty,
    "opsgenie": opsgenie,
    "jira-cloud": lambda url: jira(url, "3"),
    "jira-server": lambda url: jira(url, "2"),
    "thehive": thehive,
    "misp-event": misp_event,
    "misp-sighting": misp_sighting,
    "misp-warninglists": misp_warninglists,
    "opencti-incident": opencti_incident,
    "opencti-indicator": opencti_indicator,
    "opencti-sighting": opencti_sighting,
    "slack-bot": slack_bot,
    "slack-webhook": slack_webhook,
    "telegram": telegram,
    "elasticsearch": elasticsearch,
    "opensearch": opensearch,
    "splunk": splunk,
    "xsoar-6": lambda url: xsoar(url, "6"),
    "xsoar-8": lambda url: xsoar(url, "8"),
    "servicenow": servicenow,
    "discord": discord,
}

if __name__ == "__main__":
    try:
        CALLS[sys.argv[1]](sys.argv[2])
    except ImportError as error:
        print(error)
        sys.exit(3)
