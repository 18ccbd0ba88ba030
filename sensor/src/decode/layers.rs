//! The stack of layers a packet was taken apart into.

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Layer {
    #[default]
    Frame,
    Eth,
    Wlan,
    Llc,
    Sll,
    Null,
    Hdlc,
    Ppp,
    Pppoe,
    Vlan,
    Mpls,
    Arp,
    Ipv4,
    Ipv6,
    Ah,
    Esp,
    Gre,
    Erspan,
    Vxlan,
    Geneve,
    Teredo,
    Gtp,
    L2tp,
    Etherip,
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Sctp,
}

impl Layer {
    /// Its name in flows and facts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Eth => "eth",
            Self::Wlan => "wlan",
            Self::Llc => "llc",
            Self::Sll => "sll",
            Self::Null => "null",
            Self::Hdlc => "hdlc",
            Self::Ppp => "ppp",
            Self::Pppoe => "pppoe",
            Self::Vlan => "vlan",
            Self::Mpls => "mpls",
            Self::Arp => "arp",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Ah => "ah",
            Self::Esp => "esp",
            Self::Gre => "gre",
            Self::Erspan => "erspan",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Teredo => "teredo",
            Self::Gtp => "gtp",
            Self::L2tp => "l2tp",
            Self::Etherip => "etherip",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Sctp => "sctp",
        }
    }
}

/// At most `N` small values, on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Few<T, const N: usize> {
    list: [T; N],
    length: u8,
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { list: [T::default(); N], length: 0 }
    }
}

impl<T: Copy, const N: usize> Few<T, N> {
    /// Adds one; false when there is no room.
    pub fn push(&mut self, value: T) -> bool {
        match self.list.get_mut(usize::from(self.length)) {
            Some(place) => {
                *place = value;
                self.length = self.length.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// All of them, oldest first.
    pub fn as_slice(&self) -> &[T] {
        self.list.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// Layers from the frame inward; a packet with more is not taken apart further.
pub type Layers = Few<Layer, 40>;
/// VLAN identifiers, outermost first; further ones are not kept.
pub type Vlans = Few<u16, 8>;
