"""Wazuh: the subscriber of its aws-s3 module, and a rule that makes alerts of the records."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from exporter.siem import aws
from exporter.siem.sections import Section, of_conf, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

_MODULE = """\
<ossec_config>
  <wodle name="aws-s3">
    <disabled>no</disabled>
    <interval>10m</interval>
    <run_on_start>yes</run_on_start>
    <skip_on_error>yes</skip_on_error>
    <subscriber type="buckets">
      <sqs_name>{queue}</sqs_name>
      <aws_profile>{queue}</aws_profile>
    </subscriber>
  </wodle>
</ossec_config>
"""
_RULES = """\
<group name="audit_exporter,">
  <rule id="100800" level="3">
    <if_sid>80200</if_sid>
    <field name="aws.log_info.log_file" type="pcre2">^{folder}</field>
    <options>no_full_log</options>
    <description>Audit record from $(aws.log_info.log_file)</description>
  </rule>
</group>
"""


def wazuh(delivery: Delivery) -> list[Section]:
    """The module's subscriber, the profile that it reads with, a rule, and the wiring."""
    queue = slug(delivery)
    profile = {
        "region": aws.region(delivery),  # without one, Wazuh looks for the queue in us-east-1
        "role_arn": aws.role_arn(delivery),
        "credential_source": "Ec2InstanceMetadata",
    }
    module = Section(
        "ossec.conf",
        "to add to /var/ossec/etc/ossec.conf of one server or agent: the queue serves no other",
        "xml",
        _MODULE.format(queue=queue),
    )
    rules = Section(
        "local_rules.xml",
        "to add to /var/ossec/etc/rules/local_rules.xml: without a rule, records make no alerts",
        "xml",
        _RULES.format(folder=escape(re.escape(delivery.folder))),
    )
    where = "to add to /root/.aws/config there; in place of credential_source, `source_profile` names keys"
    return [module, of_conf("aws-config", where, {f"profile {queue}": profile}), rules, *aws.wiring(delivery)]
