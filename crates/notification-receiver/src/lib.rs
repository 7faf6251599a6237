//! notification-receiver
