/*
 * Limits a static binary to the name services that it contains.
 *
 * glibc reads /etc/nsswitch.conf and loads a shared library for each service that it does not
 * contain. These libraries load the glibc of the machine. If its version is not the binary's own,
 * the process dies (source: https://github.com/rust-lang/rust/issues/100711). Common values need
 * such a library: "hosts: files resolve [!UNAVAIL=return] dns".
 *
 * glibc contains "files" and "dns" since version 2.34: /etc/hosts, and the servers of
 * /etc/resolv.conf. systemd-resolved is one of these servers.
 */
#include <nss.h>

__attribute__((constructor)) static void use_contained_services(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
}
