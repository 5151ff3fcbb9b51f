//! The instance behind a node, from its `spec.providerID`.

use firewall_core::InstanceId;

/// Parses `aws:///<zone>/<i-…>`, `aws:////<i-…>` or a bare `<i-…>`; `None` if the id is another provider's.
///
/// Source: `MapToAWSInstanceID` in kubernetes/cloud-provider-aws, `pkg/providers/v1/instances.go`.
///
/// # Errors
/// The id is AWS's, but no instance's; the text says what it is.
pub(crate) fn instance(provider_id: &str) -> Option<Result<InstanceId, String>> {
    let Some(path) = provider_id.strip_prefix("aws://") else {
        return is_instance_id(provider_id).then(|| Ok(InstanceId::new(provider_id)));
    };
    let last = path.rsplit('/').next().unwrap_or_default();
    Some(if is_instance_id(last) {
        Ok(InstanceId::new(last))
    } else if last.starts_with("fargate-") {
        Err(format!(
            "{provider_id:?} is a Fargate node, and Fargate has no instance whose firewall could be set"
        ))
    } else {
        Err(format!("{provider_id:?} names no EC2 instance; it should end in i-0123456789abcdef0"))
    })
}

fn is_instance_id(text: &str) -> bool {
    let is_hex =
        |rest: &str| !rest.is_empty() && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("i-").is_some_and(is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_segment_names_the_instance() {
        for id in ["aws:///eu-west-1a/i-0abc12", "aws:////i-0abc12", "i-0abc12", "aws://i-0abc12"] {
            assert_eq!(instance(id), Some(Ok(InstanceId::new("i-0abc12"))), "{id}");
        }
    }

    #[test]
    fn ids_of_other_providers_are_ignored() {
        for id in [
            "gce://project/zone/name",
            "k3s://node-1",
            "azure:///subscriptions/x",
            "",
            "i-",
            "i-XYZ",
            "node-1",
        ] {
            assert_eq!(instance(id), None, "{id}");
        }
    }

    #[test]
    fn aws_id_without_an_instance_is_an_error() {
        let fargate =
            instance("aws:///eu-west-1a/1234/fargate-ip-10-0-0-1.ec2.internal").unwrap().unwrap_err();
        assert!(fargate.contains("Fargate"), "{fargate}");
        for id in [
            "aws://",
            "aws:///eu-west-1a/",
            "aws:///eu-west-1a/i-",
            "aws:///eu-west-1a/mi-0abc",
            "aws:///a/i-0ABC",
        ] {
            let error = instance(id).unwrap().unwrap_err();
            assert!(error.contains("names no EC2 instance"), "{id}: {error}");
        }
    }
}
