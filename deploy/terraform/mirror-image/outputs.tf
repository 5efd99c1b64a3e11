output "image" {
  description = "The reference to pull, known when the image is mirrored."
  value       = local.destination
  depends_on  = [terraform_data.image]
}
