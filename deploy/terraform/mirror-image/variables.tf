variable "docker_source" {
  description = "The image to mirror, as Docker reads it, like nginx:1.27 or quay.io/prometheus/prometheus:v3.0.0."
  type        = string
}

variable "architecture" {
  description = "The architecture to mirror, like amd64, or a platform, like linux/arm/v7."
  type        = string
  default     = "amd64"
}

variable "aws_account_id" {
  description = "The account of the ECR registry."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.aws_account_id))
    error_message = "An account has twelve digits."
  }
}

variable "aws_region" {
  description = "The region of the ECR registry."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+$", var.aws_region))
    error_message = "Write a region like eu-west-1."
  }
}

variable "aws_profile" {
  description = "The AWS profile to use; null: the AWS credential chain."
  type        = string
  default     = null
}

variable "aws_role_arn" {
  description = "The role to assume; null: none."
  type        = string
  default     = null
}

variable "ecr_repo_name" {
  description = "The repository in ECR. ecr-mirror creates it if it does not exist."
  type        = string
}

variable "ecr_repo_tag" {
  description = "The tag in ECR."
  type        = string
}

variable "ecr_mirror" {
  description = "The program: a path, or a name in PATH."
  type        = string
  default     = "ecr-mirror"
}
