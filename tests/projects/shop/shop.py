"""A project with its own module ``resources`` and its own section of settings."""

import dagster as dg
import pandas as pd

import ml_assets as ml
from resources import PRICE


class ShopSettings(ml.Section, table="shop"):
    orders: int
    currency: str = "EUR"


class Shop(dg.ConfigurableResource[None]):
    orders: int
    currency: str


@ml.dataset()
def orders(shop: Shop) -> pd.DataFrame:
    return pd.DataFrame({"pieces": range(shop.orders), "currency": shop.currency})


@ml.feature_set()
def prices(orders: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"price": orders["pieces"] * PRICE})


@dg.definitions
def defs() -> dg.Definitions:
    target = ml.Target.from_environment(ShopSettings)
    settings = target.section(ShopSettings)
    shop = Shop(orders=settings.orders, currency=settings.currency)
    return target.bind(dg.Definitions(assets=[orders, prices], resources={"shop": shop}))
