//! alert-bot
