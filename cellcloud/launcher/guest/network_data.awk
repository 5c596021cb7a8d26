# Reads network_data.json. Says, a line each, what the card with the address in the variable mac has: "dhcp",
# "address ADDRESS/BITS", "route NETWORK/BITS GATEWAY", "dns ADDRESS". What DHCP gives is left to it.
function bits(mask,  count, part, parts, i) {
    if (mask ~ /:/) {
        count["f"] = 4; count["e"] = 3; count["c"] = 2; count["8"] = 1
        for (i = 1; i <= length(mask); i++) part += count[substr(mask, i, 1)]
        return part + 0
    }
    split("255 8 254 7 252 6 248 5 240 4 224 3 192 2 128 1", parts, " ")
    for (i = 1; i <= 16; i += 2) count[parts[i]] = parts[i + 1]
    split(mask, parts, ".")
    for (i = 1; i <= 4; i++) part += count[parts[i]]
    return part + 0
}
function take(key, value) {
    if (key == "id") { name = value; address = "" }
    else if (key == "ethernet_mac_address") card[name] = value
    else if (key == "link") ours = card[value] == mac
    else if (!ours) return
    else if (key == "type" && value == "ipv4_dhcp") print "dhcp"
    else if (key == "ip_address") { address = value; fixed = 1 }
    else if (key == "netmask" && address != "") { print "address " address "/" bits(value); address = "" }
    else if (key == "netmask") mask = value
    else if (key == "network") network = value
    else if (key == "gateway") print "route " network "/" bits(mask) " " value
    else if (key == "address" && fixed && !told[value]++) print "dns " value
}
{ text = text $0 }
END {
    while (match(text, /"[a-z_]+" *: *"[^"]*"/)) {
        split(substr(text, RSTART, RLENGTH), pair, "\"")
        text = substr(text, RSTART + RLENGTH)
        take(pair[2], pair[4])
    }
}
