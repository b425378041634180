"""Input: sources that the chief cuts into tickets and workers open by range."""

from tfps.data.files import source
from tfps.data.source import Source
from tfps.data.ticket import Day, Ticket

__all__ = ["Day", "Source", "Ticket", "source"]
