# Mirrors one image into Amazon ECR with `ecr-mirror copy`, during `terraform apply`. Needs neither
# Docker nor the AWS CLI. README.md explains the variables.

terraform {
  required_version = ">= 1.5"
}

locals {
  suffixes    = { cn = "amazonaws.com.cn", eusc = "amazonaws.eu" }
  suffix      = lookup(local.suffixes, split("-", var.aws_region)[0], "amazonaws.com")
  registry    = "${var.aws_account_id}.dkr.ecr.${var.aws_region}.${local.suffix}"
  destination = "${local.registry}/${var.ecr_repo_name}:${var.ecr_repo_tag}"
  platform    = strcontains(var.architecture, "/") ? var.architecture : "linux/${var.architecture}"
}

resource "terraform_data" "image" {
  triggers_replace = [var.docker_source, local.platform, local.destination]

  # Terraform starts the program itself: the values are arguments, and no shell reads them. After
  # `--` a value is never an option.
  provisioner "local-exec" {
    interpreter = concat(
      [var.ecr_mirror, "copy", "--platform=${local.platform}", "--region=${var.aws_region}"],
      var.aws_profile == null ? [] : ["--profile=${var.aws_profile}"],
      var.aws_role_arn == null ? [] : ["--role-arn=${var.aws_role_arn}"],
      ["--", var.docker_source],
    )
    command = local.destination
  }
}
