//! Security groups and their rules.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{element, list, tags};
use super::{DEFAULT_VPC, Failure, Params, State};

const RULES_PER_FAMILY: usize = 60;

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) vpc: String,
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) rules: Vec<Rule>,
    /// How many calls do not know the group yet
    lag: u32,
    pub(crate) linger: u32,
}

/// One rule: the element that its source stands in, and the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) egress: bool,
    pub(crate) protocol: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) kind: &'static str,
    pub(crate) source: String,
    pub(crate) id: String,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Rule {
    /// `tcp 80 80 cidrIp 0.0.0.0/0`
    pub(crate) fn ingress(text: &str) -> Self {
        let parts: Vec<&str> = text.split(' ').collect();
        let [protocol, from, to, kind, source] = parts[..] else { panic!("five words: {text}") };
        let kind = SOURCES.iter().map(|source| source.2).find(|name| *name == kind).unwrap();
        let tags = BTreeMap::new();
        let [protocol, from, to, source] = [protocol, from, to, source].map(ToOwned::to_owned);
        Self { egress: false, protocol, from, to, kind, source, id: format!("sgr-{text}"), tags }
    }

    fn same_traffic(&self, other: &Self) -> bool {
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

    fn permission(&self) -> String {
        let (_, _, _, set) = SOURCES.iter().find(|source| source.2 == self.kind).unwrap();
        let source = list(set, [element(self.kind, &self.source)]);
        element("ipProtocol", &self.protocol) + &self.ports() + &source
    }

    fn ports(&self) -> String {
        if self.from.is_empty() {
            return String::new();
        }
        element("fromPort", &self.from) + &element("toPort", &self.to)
    }

    fn described(&self, group: &str) -> String {
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
            + &self.ports()
            + &source
            + &tags(&self.tags)
    }
}

/// List parameter, its field, the element in answers, and the element around those.
const SOURCES: [(&str, &str, &str, &str); 4] = [
    ("IpRanges", "CidrIp", "cidrIp", "ipRanges"),
    ("Ipv6Ranges", "CidrIpv6", "cidrIpv6", "ipv6Ranges"),
    ("Groups", "GroupId", "groupId", "groups"),
    ("PrefixListIds", "PrefixListId", "prefixListId", "prefixListIds"),
];

impl Group {
    pub(crate) fn new(vpc: &str, name: &str, tags: &[(&str, &str)]) -> Self {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let everything = |kind, source: &str| Rule {
            egress: true,
            protocol: "-1".into(),
            from: String::new(),
            to: String::new(),
            kind,
            source: source.into(),
            id: format!("sgr-{name}-{kind}"),
            tags: BTreeMap::new(),
        };
        let rules = vec![everything("cidrIp", "0.0.0.0/0"), everything("cidrIpv6", "::/0")];
        Self { vpc: vpc.into(), name: name.into(), tags, rules, lag: 0, linger: 0 }
    }

    pub(crate) fn egress(&self) -> usize {
        self.rules.iter().filter(|rule| rule.egress).count()
    }

    /// Ingress as `tcp 80 80 0.0.0.0/0`, in order.
    pub(crate) fn ingress(&self) -> Vec<String> {
        let ingress = self.rules.iter().filter(|rule| !rule.egress);
        let mut texts: Vec<String> = ingress
            .map(|rule| format!("{} {} {} {}", rule.protocol, rule.from, rule.to, rule.source))
            .collect();
        texts.sort();
        texts
    }

    fn described(&self, id: &str) -> String {
        let permissions =
            |egress| self.rules.iter().filter(move |rule| rule.egress == egress).map(Rule::permission);
        element("groupId", id)
            + &element("groupName", &self.name)
            + &element("vpcId", &self.vpc)
            + &tags(&self.tags)
            + &list("ipPermissions", permissions(false))
            + &list("ipPermissionsEgress", permissions(true))
    }

    fn over_quota(&self) -> bool {
        let count = |kind| self.rules.iter().filter(|rule| !rule.egress && rule.kind == kind).count();
        count("cidrIp") > RULES_PER_FAMILY || count("cidrIpv6") > RULES_PER_FAMILY
    }
}

fn tag_parameters(params: &Params) -> BTreeMap<String, String> {
    let tag = |at: String| {
        (params.get(&format!("{at}.Key")).to_owned(), params.get(&format!("{at}.Value")).to_owned())
    };
    params.members("TagSpecification.1.Tag").into_iter().map(tag).collect()
}

fn rule_parameters(params: &Params, egress: bool) -> Result<Vec<Rule>, Failure> {
    let mut rules: Vec<Rule> = Vec::new();
    for at in params.members("IpPermissions") {
        let field = |name: &str| params.get(&format!("{at}.{name}")).to_owned();
        for (name, key, kind, _) in SOURCES {
            for source in params.members(&format!("{at}.{name}")) {
                let source = params.get(&format!("{source}.{key}")).to_owned();
                let (protocol, from, to) = (field("IpProtocol"), field("FromPort"), field("ToPort"));
                let (id, tags) = (String::new(), BTreeMap::new());
                let rule = Rule { egress, protocol, from, to, kind, source, id, tags };
                if rules.iter().any(|other| other.same_traffic(&rule)) {
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
    /// The group, if it has got around yet.
    fn group_for(&mut self, id: &str) -> Result<&mut Group, Failure> {
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
            self.group_for(&id)?;
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
        let visible = self.groups.iter().filter(|(_, group)| group.lag == 0);
        let groups: Vec<String> = visible.filter(matches).map(|(id, group)| group.described(id)).collect();
        let (page, token) = params.page(groups);
        for group in self.groups.values_mut() {
            group.lag = group.lag.saturating_sub(1);
        }
        Ok(list("securityGroupInfo", page) + &token)
    }

    pub(super) fn describe_rules(&self, params: &Params) -> String {
        let [(name, values)] = &params.filters()[..] else { panic!("one filter") };
        assert_eq!(name, "group-id");
        let groups = self.groups.iter().filter(|(id, _)| values.contains(id));
        let rules: Vec<String> =
            groups.flat_map(|(id, group)| group.rules.iter().map(move |rule| rule.described(id))).collect();
        let (page, token) = params.page(rules);
        list("securityGroupRuleSet", page) + &token
    }

    pub(super) fn create_group(&mut self, params: &Params) -> Result<String, Failure> {
        let (vpc, name) = (params.get("VpcId"), params.get("GroupName"));
        let taken = |group: &Group| group.vpc == vpc && group.name.eq_ignore_ascii_case(name);
        if self.groups.values().any(taken) {
            return Err(Failure::new(
                "InvalidGroup.Duplicate",
                format!("The security group '{name}' already exists"),
            ));
        }
        assert!(name.len() <= 255 && params.get("GroupDescription").len() <= 255 && !name.starts_with("sg-"));
        let id = self.new_id("sg");
        let (lag, linger) = (self.lag, self.linger);
        let group = Group { tags: tag_parameters(params), lag, linger, ..Group::new(vpc, name, &[]) };
        self.groups.insert(id.clone(), group);
        Ok(element("groupId", &id))
    }

    pub(super) fn delete_group(&mut self, params: &Params) -> Result<String, Failure> {
        let id = params.get("GroupId").to_owned();
        let used = self.interfaces.values().any(|interface| interface.groups.contains(&id));
        let group = self.group_for(&id)?;
        if used || group.linger > 0 {
            group.linger = group.linger.saturating_sub(1);
            return Err(Failure::new("DependencyViolation", format!("resource {id} has a dependent object")));
        }
        self.groups.remove(&id);
        Ok(element("return", "true"))
    }

    /// Not atomic: EC2 does not document that it is.
    pub(super) fn authorize(&mut self, params: &Params) -> Result<String, Failure> {
        let (id, tags) = (params.get("GroupId").to_owned(), tag_parameters(params));
        let rules = rule_parameters(params, false)?;
        let ids: Vec<String> = rules.iter().map(|_| self.new_id("sgr")).collect();
        let group = self.group_for(&id)?;
        for (rule, rule_id) in rules.into_iter().zip(ids) {
            if group.rules.iter().any(|other| other.same_traffic(&rule)) {
                return Err(Failure::new("InvalidPermission.Duplicate", "the specified rule already exists"));
            }
            group.rules.push(Rule { id: rule_id, tags: tags.clone(), ..rule });
            if group.over_quota() {
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
        let rules = rule_parameters(params, egress)?;
        let group = self.group_for(&id)?;
        let known: BTreeSet<&String> = group.rules.iter().map(|rule| &rule.id).collect();
        if let Some(missing) = ids.iter().find(|id| !known.contains(id)) {
            return Err(Failure::new("InvalidSecurityGroupRuleId.NotFound", missing));
        }
        let missing = rules.iter().any(|rule| !group.rules.iter().any(|other| other.same_traffic(rule)));
        if missing && group.vpc != DEFAULT_VPC {
            return Err(Failure::new("InvalidPermission.NotFound", "The specified rule does not exist"));
        }
        group.rules.retain(|own| !ids.contains(&own.id) && !rules.iter().any(|rule| rule.same_traffic(own)));
        Ok(element("return", "true"))
    }
}
