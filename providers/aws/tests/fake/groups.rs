//! Security groups and their rules.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{element, list, tags};
use super::{DEFAULT_VPC, Failure, Params, State};

const RULES_PER_FAMILY: usize = 60;

/// One security group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) vpc: String,
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) rules: Vec<Rule>,
    /// The number of calls that do not know the group yet
    lag: u32,
    /// The number of deletions that are refused after its last use has ended
    pub(crate) detach_lag: u32,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) egress: bool,
    pub(crate) protocol: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// The element of an answer that holds the source
    pub(crate) kind: &'static str,
    pub(crate) source: String,
    pub(crate) description: String,
    pub(crate) id: String,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Rule {
    /// Parses `tcp 80 80 cidrIp 0.0.0.0/0`.
    pub(crate) fn ingress(text: &str) -> Self {
        let parts: Vec<&str> = text.split(' ').collect();
        let [protocol, from, to, kind, source] = parts[..] else { panic!("five words: {text}") };
        let kind = SOURCES.iter().map(|source| source.2).find(|name| *name == kind).unwrap();
        let tags = BTreeMap::new();
        let [protocol, from, to, source] = [protocol, from, to, source].map(ToOwned::to_owned);
        let (description, id) = (String::new(), format!("sgr-{text}"));
        Self { egress: false, protocol, from, to, kind, source, description, id, tags }
    }

    fn is_same_traffic(&self, other: &Self) -> bool {
        let key = |rule: &Self| {
            (
                rule.egress,
                rule.protocol.clone(),
                rule.from.clone(),
                rule.to.clone(),
                rule.kind,
                rule.source.clone(),
            )
        };
        key(self) == key(other)
    }

    fn permission_xml(&self) -> String {
        let (_, _, _, set) = SOURCES.iter().find(|source| source.2 == self.kind).unwrap();
        let description = element("description", &self.description);
        let source = list(set, [element(self.kind, &self.source) + &description]);
        element("ipProtocol", &self.protocol) + &self.ports_xml() + &source
    }

    fn ports_xml(&self) -> String {
        if self.from.is_empty() {
            return String::new();
        }
        element("fromPort", &self.from) + &element("toPort", &self.to)
    }

    fn describe(&self, group: &str) -> String {
        let source = match self.kind {
            "cidrIp" => element("cidrIpv4", &self.source),
            "groupId" => {
                format!("<referencedGroupInfo>{}</referencedGroupInfo>", element("groupId", &self.source))
            }
            kind => element(kind, &self.source),
        };
        let egress = if self.egress { "true" } else { "false" };
        element("securityGroupRuleId", &self.id)
            + &element("groupId", group)
            + &element("isEgress", egress)
            + &element("ipProtocol", &self.protocol)
            + &self.ports_xml()
            + &source
            + &tags(&self.tags)
    }
}

/// The forms of a source: the list parameter, its field, the element in answers, and the element around
/// those.
const SOURCES: [(&str, &str, &str, &str); 4] = [
    ("IpRanges", "CidrIp", "cidrIp", "ipRanges"),
    ("Ipv6Ranges", "CidrIpv6", "cidrIpv6", "ipv6Ranges"),
    ("Groups", "GroupId", "groupId", "groups"),
    ("PrefixListIds", "PrefixListId", "prefixListId", "prefixListIds"),
];

impl Group {
    /// Returns a group as EC2 creates it: open for all egress of both families.
    pub(crate) fn new(vpc: &str, name: &str, tags: &[(&str, &str)]) -> Self {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let everything = |kind, source: &str| Rule {
            egress: true,
            protocol: "-1".into(),
            from: String::new(),
            to: String::new(),
            kind,
            source: source.into(),
            description: String::new(),
            id: format!("sgr-{name}-{kind}"),
            tags: BTreeMap::new(),
        };
        let rules = vec![everything("cidrIp", "0.0.0.0/0"), everything("cidrIpv6", "::/0")];
        Self { vpc: vpc.into(), name: name.into(), tags, rules, lag: 0, detach_lag: 0 }
    }

    /// Returns the number of egress rules.
    pub(crate) fn egress(&self) -> usize {
        self.rules.iter().filter(|rule| rule.egress).count()
    }

    /// Returns the ingress rules as `tcp 80 80 0.0.0.0/0`, in order.
    pub(crate) fn ingress(&self) -> Vec<String> {
        let ingress = self.rules.iter().filter(|rule| !rule.egress);
        let mut texts: Vec<String> = ingress
            .map(|rule| format!("{} {} {} {}", rule.protocol, rule.from, rule.to, rule.source))
            .collect();
        texts.sort();
        texts
    }

    fn describe(&self, id: &str) -> String {
        let permissions =
            |egress| self.rules.iter().filter(move |rule| rule.egress == egress).map(Rule::permission_xml);
        element("groupId", id)
            + &element("groupName", &self.name)
            + &element("vpcId", &self.vpc)
            + &tags(&self.tags)
            + &list("ipPermissions", permissions(false))
            + &list("ipPermissionsEgress", permissions(true))
    }

    fn is_over_quota(&self) -> bool {
        let count = |kind| self.rules.iter().filter(|rule| !rule.egress && rule.kind == kind).count();
        count("cidrIp") > RULES_PER_FAMILY || count("cidrIpv6") > RULES_PER_FAMILY
    }
}

fn parse_tags(params: &Params) -> BTreeMap<String, String> {
    let tag = |at: String| {
        (params.get(&format!("{at}.Key")).to_owned(), params.get(&format!("{at}.Value")).to_owned())
    };
    params.members("TagSpecification.1.Tag").into_iter().map(tag).collect()
}

fn parse_rules(params: &Params, egress: bool) -> Result<Vec<Rule>, Failure> {
    let mut rules: Vec<Rule> = Vec::new();
    for at in params.members("IpPermissions") {
        let field = |name: &str| params.get(&format!("{at}.{name}")).to_owned();
        for (name, key, kind, _) in SOURCES {
            for source in params.members(&format!("{at}.{name}")) {
                let description = params.get(&format!("{source}.Description")).to_owned();
                let source = params.get(&format!("{source}.{key}")).to_owned();
                let (protocol, from, to) = (field("IpProtocol"), field("FromPort"), field("ToPort"));
                let (id, tags) = (String::new(), BTreeMap::new());
                let rule = Rule { egress, protocol, from, to, kind, source, description, id, tags };
                if rules.iter().any(|other| other.is_same_traffic(&rule)) {
                    return Err(Failure::new(
                        "InvalidParameterValue",
                        "The same permission must not appear twice",
                    ));
                }
                rules.push(rule);
            }
        }
    }
    Ok(rules)
}

impl State {
    /// Returns the group, if it has propagated yet.
    fn propagated_group(&mut self, id: &str) -> Result<&mut Group, Failure> {
        let missing =
            Failure::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"));
        let group = self.groups.get_mut(id).ok_or_else(|| missing.clone())?;
        if group.lag > 0 {
            group.lag -= 1;
            return Err(missing);
        }
        Ok(group)
    }

    pub(super) fn describe_groups(&mut self, params: &Params) -> Result<String, Failure> {
        for id in params.list("GroupId") {
            self.propagated_group(&id)?;
        }
        let ids = params.list("GroupId");
        let matches = |(id, group): &(&String, &Group)| {
            let by_id = ids.is_empty() || ids.contains(id);
            by_id
                && params.filters().iter().all(|(name, values)| {
                    let own = match name.as_str() {
                        "group-id" => Some((*id).clone()),
                        "group-name" => Some(group.name.clone()),
                        "vpc-id" => Some(group.vpc.clone()),
                        _ => group.tags.get(name.strip_prefix("tag:").expect("a known filter")).cloned(),
                    };
                    own.is_some_and(|own| values.contains(&own))
                })
        };
        let is_visible = |(id, group): &(&String, &Group)| group.lag == 0 && !self.is_hidden(params, id);
        let visible = self.groups.iter().filter(is_visible);
        let groups: Vec<String> = visible.filter(matches).map(|(id, group)| group.describe(id)).collect();
        let (page, token) = params.page(groups, self.has_full_pages);
        for group in self.groups.values_mut() {
            group.lag = group.lag.saturating_sub(1);
        }
        Ok(list("securityGroupInfo", page) + &token)
    }

    pub(super) fn describe_rules(&self, params: &Params) -> String {
        let [(name, values)] = &params.filters()[..] else { panic!("one filter") };
        let tag = name.strip_prefix("tag:");
        assert!(name == "group-id" || tag.is_some(), "a known filter");
        let rules = self.groups.iter().flat_map(|(id, group)| group.rules.iter().map(move |rule| (id, rule)));
        let matches = |(id, rule): &(&String, &Rule)| {
            values.contains(tag.map_or(Some(*id), |tag| rule.tags.get(tag)).unwrap_or(&String::new()))
        };
        let rules: Vec<String> = rules.filter(matches).map(|(id, rule)| rule.describe(id)).collect();
        let (page, token) = params.page(rules, self.has_full_pages);
        list("securityGroupRuleSet", page) + &token
    }

    pub(super) fn create_group(&mut self, params: &Params) -> Result<String, Failure> {
        let (vpc, name) = (params.get("VpcId"), params.get("GroupName"));
        let has_name = |group: &Group| group.vpc == vpc && group.name.eq_ignore_ascii_case(name);
        if self.groups.values().any(has_name) {
            return Err(Failure::new(
                "InvalidGroup.Duplicate",
                format!("The security group '{name}' already exists"),
            ));
        }
        assert!(name.len() <= 255 && params.get("GroupDescription").len() <= 255 && !name.starts_with("sg-"));
        self.check_demanded_tag(params)?;
        let id = self.new_id("sg");
        let (lag, detach_lag) = (self.lag, self.detach_lag);
        let group = Group { tags: parse_tags(params), lag, detach_lag, ..Group::new(vpc, name, &[]) };
        self.groups.insert(id.clone(), group);
        Ok(element("groupId", &id))
    }

    pub(super) fn delete_group(&mut self, params: &Params) -> Result<String, Failure> {
        let id = params.get("GroupId").to_owned();
        let is_used = self.interfaces.values().any(|interface| interface.groups.contains(&id));
        let group = self.propagated_group(&id)?;
        if is_used || group.detach_lag > 0 {
            group.detach_lag = group.detach_lag.saturating_sub(1);
            return Err(Failure::new("DependencyViolation", format!("resource {id} has a dependent object")));
        }
        self.groups.remove(&id);
        Ok(element("return", "true"))
    }

    /// As a policy of the organization refuses what lacks a tag.
    fn check_demanded_tag(&self, params: &Params) -> Result<(), Failure> {
        match self.demanded_tag.filter(|key| !parse_tags(params).contains_key(*key)) {
            None => Ok(()),
            Some(_) => {
                Err(Failure::new("UnauthorizedOperation", "explicit deny in a service control policy"))
            }
        }
    }

    /// Adds the rules one by one: EC2 does not document that the call is atomic.
    pub(super) fn authorize(&mut self, params: &Params) -> Result<String, Failure> {
        self.check_demanded_tag(params)?;
        let (id, tags) = (params.get("GroupId").to_owned(), parse_tags(params));
        let rules = parse_rules(params, false)?;
        let ids: Vec<String> = rules.iter().map(|_| self.new_id("sgr")).collect();
        let group = self.propagated_group(&id)?;
        for (rule, rule_id) in rules.into_iter().zip(ids) {
            if group.rules.iter().any(|other| other.is_same_traffic(&rule)) {
                return Err(Failure::new("InvalidPermission.Duplicate", "the specified rule already exists"));
            }
            group.rules.push(Rule { id: rule_id, tags: tags.clone(), ..rule });
            if group.is_over_quota() {
                group.rules.pop();
                return Err(Failure::new(
                    "RulesPerSecurityGroupLimitExceeded",
                    "The maximum number of rules",
                ));
            }
        }
        Ok(element("return", "true"))
    }

    pub(super) fn revoke(&mut self, params: &Params, egress: bool) -> Result<String, Failure> {
        let (id, ids) = (params.get("GroupId").to_owned(), params.list("SecurityGroupRuleId"));
        let rules = parse_rules(params, egress)?;
        let group = self.propagated_group(&id)?;
        let known: BTreeSet<&String> = group.rules.iter().map(|rule| &rule.id).collect();
        if let Some(missing) = ids.iter().find(|id| !known.contains(id)) {
            return Err(Failure::new("InvalidSecurityGroupRuleId.NotFound", missing));
        }
        let missing = rules.iter().any(|rule| !group.rules.iter().any(|other| other.is_same_traffic(rule)));
        if missing && group.vpc != DEFAULT_VPC {
            return Err(Failure::new("InvalidPermission.NotFound", "The specified rule does not exist"));
        }
        group
            .rules
            .retain(|own| !ids.contains(&own.id) && !rules.iter().any(|rule| rule.is_same_traffic(own)));
        Ok(element("return", "true"))
    }
}
